-- A statement of very many lines comes in parts: a row each, with everything of the whole but its own lines.
ALTER TABLE statements ADD COLUMN IF NOT EXISTS part UInt32, ADD COLUMN IF NOT EXISTS last_part UInt32,
    MODIFY ORDER BY (account, day, revision, part);

-- Every revision whose parts are all here.
CREATE VIEW statements_whole AS
SELECT account, day, revision, any(replaces) AS replaces, any(currency) AS currency, any(amount) AS amount,
    arrayFlatten(arraySort(p -> p.1, groupArray((part, lines))).2) AS lines, any(version) AS version, any(at) AS at
FROM (SELECT * FROM statements FINAL) GROUP BY account, day, revision HAVING count() = any(last_part) + 1;

CREATE OR REPLACE VIEW statements_newest AS
SELECT * FROM statements_whole ORDER BY account, day, revision DESC LIMIT 1 BY account, day;
