"""Where data lies: a folder, an S3 bucket, or shards in either; one way to read them all."""
