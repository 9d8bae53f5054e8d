-- What is used on the Free plan is never priced: an overage says which plan its workspace had on its day.
ALTER TABLE overage_landing ADD COLUMN IF NOT EXISTS plan String DEFAULT 'commercial';

ALTER TABLE overage_events ADD COLUMN IF NOT EXISTS plan LowCardinality(String) DEFAULT 'commercial';

ALTER TABLE overage_newest ADD COLUMN IF NOT EXISTS plan LowCardinality(String) DEFAULT 'commercial';

ALTER TABLE overage_events_mv MODIFY QUERY
SELECT id, account, day, workspace, meter, basis, retention_days, quantity, version, settled, at, currency, site, plan
FROM overage_landing;

ALTER TABLE overage_newest_mv MODIFY QUERY
SELECT id, account, day, workspace, meter, basis, ifNull(retention_days, 0) AS retention, retention_days, quantity, version,
    settled, at, currency, site, plan
FROM overage_landing;

CREATE OR REPLACE VIEW overage AS
SELECT id, account, day, workspace, meter, basis, retention_days, quantity, version, settled, at, currency, site, plan
FROM overage_newest FINAL;

-- As before, and without a price where the plan is Free.
CREATE OR REPLACE VIEW rated_overage AS
SELECT o.id AS id, o.account AS account, o.day AS day, o.workspace AS workspace, o.meter AS meter, o.basis AS basis,
    o.retention_days AS retention_days, o.quantity AS quantity, o.version AS version, o.settled AS settled, o.at AS at,
    toDecimal128(intDiv(toInt128(o.quantity) * 100, r.unit_size), 2) / 100 AS units, r.price AS price,
    units * price AS amount, o.currency AS currency, o.plan AS plan
FROM (SELECT *, if(basis = 'package', -1, toInt64(ifNull(retention_days, 0))) AS tier FROM overage) AS o
ASOF LEFT JOIN (
    SELECT *, toInt64(retention_days) AS tier, 'commercial' AS plan FROM rates
    UNION ALL SELECT *, toInt64(-1) AS tier, 'commercial' AS plan FROM rates WHERE is_default
) AS r
ON o.meter = r.meter AND o.site = r.site AND o.currency = r.currency AND o.plan = r.plan AND o.tier = r.tier
    AND o.day >= r.effective_from
SETTINGS join_use_nulls = 1;

-- Bindings as they stand in the log, for the audit: from which day on a workspace had which plan.
CREATE TABLE bindings (
    account LowCardinality(String), binding Tuple(workspace String, plan String, time_zone String),
    at Nullable(DateTime64(6, 'UTC')), log_offset UInt64
) ENGINE = ReplacingMergeTree ORDER BY (account, log_offset);
