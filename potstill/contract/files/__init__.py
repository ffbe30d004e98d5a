"""How files are read and written: whole or not at all, decoded with an error that names the place, digested."""
