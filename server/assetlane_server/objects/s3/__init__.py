"""S3 and whatever speaks its API: the connection, the store on it, multipart uploads, the signer."""
