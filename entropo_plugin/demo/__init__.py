"""A training that anyone can watch on a plain machine: stock GRPO beside REPO-R, on a task with many right answers."""
