"""From criteria as written to awards, without a clock, a socket or a log line.

Reading order is import order: `ir` (the nodes), `operators/` (one file per leaf operator), `parse` (JSON to formula),
`normalize` (total rewrites), `catalog` (documents to definitions, lints), `plan` (definitions to routes), `evaluate`
(one event to awards, and the explanation).
"""
