-- Overage events as emitted. `retention` is 0 for a package overage, which has none.
CREATE TABLE overage_landing (
    id String, account String, day Date, workspace String, meter String, basis String, retention_days Nullable(UInt32),
    quantity UInt64, version UInt64, settled Bool, at DateTime64(6, 'UTC'), currency String, site String
) ENGINE = Null;

CREATE TABLE overage_events (
    id String, account LowCardinality(String), day Date, workspace String, meter LowCardinality(String),
    basis LowCardinality(String), retention_days Nullable(UInt32), quantity UInt64, version UInt64, settled Bool,
    at DateTime64(6, 'UTC'), currency LowCardinality(String), site LowCardinality(String)
) ENGINE = ReplacingMergeTree PARTITION BY toYYYYMM(day) ORDER BY (account, day, workspace, meter, id);

CREATE MATERIALIZED VIEW overage_events_mv TO overage_events AS SELECT * FROM overage_landing;

CREATE TABLE overage_newest (
    id String, account LowCardinality(String), day Date, workspace String, meter LowCardinality(String),
    basis LowCardinality(String), retention UInt32, retention_days Nullable(UInt32), quantity UInt64, version UInt64,
    settled Bool, at DateTime64(6, 'UTC'), currency LowCardinality(String), site LowCardinality(String)
) ENGINE = ReplacingMergeTree(version) PARTITION BY toYYYYMM(day)
ORDER BY (account, day, workspace, meter, basis, retention);

CREATE MATERIALIZED VIEW overage_newest_mv TO overage_newest AS
SELECT *, ifNull(retention_days, 0) AS retention FROM overage_landing;

CREATE VIEW overage AS SELECT * EXCEPT (retention) FROM overage_newest FINAL;

-- The price list, filled from the catalog by `drawdown migrate`.
CREATE TABLE rates_loaded (
    meter LowCardinality(String), retention_days UInt32, site LowCardinality(String), currency LowCardinality(String),
    price Decimal(18, 6), unit_size UInt64, effective_from Date, is_default Bool, updated DateTime64(6, 'UTC')
) ENGINE = ReplacingMergeTree(updated) ORDER BY (meter, retention_days, site, currency, effective_from);

-- Only the list that was loaded last: a price that the catalog has no more is gone.
CREATE VIEW rates AS
SELECT * EXCEPT (updated) FROM rates_loaded FINAL WHERE updated = (SELECT max(updated) FROM rates_loaded);

-- Package overage is priced at the default retention of its meter (tier -1), pay-as-you-go at its own. A usage that has no
-- price shows NULL, never 0. Units are truncated to two decimals; the amount is exact.
CREATE VIEW rated_overage AS
SELECT o.id AS id, o.account AS account, o.day AS day, o.workspace AS workspace, o.meter AS meter, o.basis AS basis,
    o.retention_days AS retention_days, o.quantity AS quantity, o.version AS version, o.settled AS settled, o.at AS at,
    toDecimal128(intDiv(toInt128(o.quantity) * 100, r.unit_size), 2) / 100 AS units, r.price AS price,
    units * price AS amount, o.currency AS currency
FROM (SELECT *, if(basis = 'package', -1, toInt64(ifNull(retention_days, 0))) AS tier FROM overage) AS o
ASOF LEFT JOIN (
    SELECT *, toInt64(retention_days) AS tier FROM rates
    UNION ALL SELECT *, toInt64(-1) AS tier FROM rates WHERE is_default
) AS r
ON o.meter = r.meter AND o.site = r.site AND o.currency = r.currency AND o.tier = r.tier AND o.day >= r.effective_from
SETTINGS join_use_nulls = 1;
