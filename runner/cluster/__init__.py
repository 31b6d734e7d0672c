"""Ray itself: starting or joining a cluster, what it holds, jobs on it."""
