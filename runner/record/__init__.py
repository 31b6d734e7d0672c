"""What a sweep leaves on a disk or S3, the truth about it: its definition, its drivers, its histories."""
