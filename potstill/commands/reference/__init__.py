"""The pages of the documents that are written from the program itself: `make docs`. A test fails when one is old."""
