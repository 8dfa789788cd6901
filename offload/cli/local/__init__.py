"""The environment local: the embedded AWS, its life, what is deployed to it, what it cannot do by itself."""
