"""The teacher behind the server: which texts it is asked about, for how long, and what is kept for an audit."""
