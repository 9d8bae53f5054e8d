-- Which firing of the day it is, the minute that a forecast names, and the charge that passed an amount.
ALTER TABLE alerts
    ADD COLUMN IF NOT EXISTS firing UInt32 DEFAULT 1,
    ADD COLUMN IF NOT EXISTS exhausts_at Nullable(DateTime64(6, 'UTC')),
    ADD COLUMN IF NOT EXISTS amount Nullable(Decimal(38, 8)),
    ADD COLUMN IF NOT EXISTS currency LowCardinality(Nullable(String));
