"""OCI layouts: where blobs lie, and how images are made of them."""
