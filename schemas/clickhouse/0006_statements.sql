-- A line that has no price is stated with none, never with 0. Every revision is a row; the newest one holds.
ALTER TABLE statements MODIFY COLUMN lines Array(Tuple(workspace String, meter String, basis String,
    retention_days Nullable(UInt32), quantity UInt64, units Decimal(38, 2), price Nullable(Decimal(18, 6)),
    amount Nullable(Decimal(38, 8))));

CREATE VIEW statements_newest AS
SELECT * FROM statements FINAL ORDER BY account, day, revision DESC LIMIT 1 BY account, day;
