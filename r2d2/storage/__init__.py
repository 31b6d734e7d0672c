"""Reads and writes files in a folder or below a prefix of S3, by the same functions.

`s3.py` alone holds a client; `s3_files.py` reads snapshots, `s3_store.py` keeps small files, and
`transfer.py` moves large ones.
"""
