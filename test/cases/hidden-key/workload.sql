INSERT INTO hidden_key VALUES (1, 'a');
DELETE FROM hidden_key WHERE a = 1 LIMIT 1;
UPDATE hidden_key SET b = 'z' WHERE a = 2;
ALTER TABLE hidden_key ADD COLUMN c INT NOT NULL DEFAULT 3;
UPDATE hidden_key_index SET a = a + 1;
ALTER TABLE hidden_key_index ADD COLUMN c INT, ADD INDEX ((c * a));
INSERT INTO hidden_key_index VALUES (3, 1, 'B', 5);
UPDATE hidden_key_column SET id = 20 WHERE id = 2;
INSERT INTO hidden_key_column (id, v) VALUES (3, 'c');
