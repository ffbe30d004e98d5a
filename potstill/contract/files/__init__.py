"""Reading and writing files: decoding, digests, atomic writes, Parquet and Arrow."""
