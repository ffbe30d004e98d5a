"""Files and folders of texts of any size: answered by several processes in bounded memory, and resumed after a kill."""
