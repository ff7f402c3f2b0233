"""One batch, from bytes to granted awards, in one transaction; and the loop that owns a partition.

`protocols` says what is asked of a store and of a stream, `batch` holds the transaction, `partition` the ownership,
`messages` the award as others read it.
"""
