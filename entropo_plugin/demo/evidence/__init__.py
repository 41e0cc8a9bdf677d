"""What each method does to reward, entropy and useful diversity: arms x seeds x tasks, on TRL, one CSV row a run."""
