CREATE TABLE json_types (id INT PRIMARY KEY, doc JSON, note VARCHAR(20));
CREATE TABLE json_types_no_key (doc JSON, n INT);
INSERT INTO json_types SELECT a.n * 20 + b.n, IF(b.n % 3 = 0, JSON_OBJECT('n', b.n), JSON_OBJECT('price', CAST(a.n + 0.50 AS DECIMAL(12,2)), 'day', CAST('2026-11-30' AS DATE), 'id', CAST(b.n AS UNSIGNED))), 'before' FROM JSON_TABLE('[0,1,2,3,4,5,6,7,8,9]', '$[*]' COLUMNS (n INT PATH '$')) a, JSON_TABLE('[0,1,2,3,4,5,6,7,8,9]', '$[*]' COLUMNS (n INT PATH '$')) b;
INSERT INTO json_types_no_key SELECT doc, 1 FROM json_types WHERE id < 30;
INSERT INTO json_types_no_key SELECT doc, 1 FROM json_types WHERE id < 30;
