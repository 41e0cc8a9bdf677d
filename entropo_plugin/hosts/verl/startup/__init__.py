"""What a configuration asks of us, what is refused, and how verl finds us."""
