INSERT INTO json_types SELECT id + 1000, doc, 'stream' FROM json_types;
UPDATE json_types SET doc = JSON_SET(doc, '$.added', CAST('19.90' AS DECIMAL(12,2))), note = 'updated' WHERE id % 2 = 0;
INSERT INTO json_types_no_key SELECT doc, 2 FROM json_types WHERE id > 1000 AND id < 1030;
DELETE FROM json_types_no_key WHERE n = 1 LIMIT 20;
-- The same number as another type.
INSERT INTO json_types VALUES (5000, JSON_ARRAY(9007199254740993.25), 'decimal'), (5001, JSON_ARRAY(9007199254740993.25e0), 'double');
UPDATE json_types SET doc = JSON_ARRAY(9.5e0) WHERE id = 5000;
UPDATE json_types SET doc = JSON_ARRAY(9.5) WHERE id = 5001;
SET SESSION binlog_row_value_options = PARTIAL_JSON;
UPDATE json_types SET doc = JSON_SET(doc, '$.price', CAST(1.10 AS DECIMAL(4,2)), '$.day', CAST('2026-12-01' AS DATE), '$.id', CAST(7 AS UNSIGNED), '$.aa', X'01') WHERE id < 40;
UPDATE json_types SET doc = JSON_SET(doc, '$.price', 'text', '$.day', 1, '$.id', 2) WHERE id < 10;
UPDATE json_types_no_key SET doc = JSON_SET(doc, '$.zz', 1, '$.a', CAST(2.50 AS DECIMAL(4,2))) WHERE n = 2;
SET SESSION binlog_row_value_options = '';
DELETE FROM json_types_no_key WHERE n = 2 LIMIT 3;
ALTER TABLE json_types ADD COLUMN more JSON;
UPDATE json_types SET more = doc;
