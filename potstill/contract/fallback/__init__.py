"""What a server and the teacher behind it agree on: their messages, and the file in which an audit keeps both answers."""
