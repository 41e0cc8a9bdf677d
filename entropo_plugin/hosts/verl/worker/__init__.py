"""What runs in every worker: the loss, and the policy losses that it may call."""
