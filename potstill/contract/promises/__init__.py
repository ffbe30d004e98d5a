"""What a bundle promises beside its answers: a certificate of their accuracy, and which texts are unlike those that it knows."""
