"""The pump thread and what it keeps."""
