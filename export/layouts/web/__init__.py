"""Package a bundle as a folder that classifies in a browser, from disk and without a server, or in Node."""
