"""Where data lies: a folder or an S3 bucket; one way to read both."""
