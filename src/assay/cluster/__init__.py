"""Scans on a cluster: the inputs planned once, judged chunk by chunk by processes of Ray, results as Parquet. Needs the
extra "cluster"; nothing else imports Ray."""
