ALTER TABLE generated_ ADD COLUMN total INT GENERATED ALWAYS AS (a + b) STORED;
INSERT INTO generated_ (id, a, b) VALUES (3, 5, 6);
ALTER TABLE generated_ ADD COLUMN twice INT AS (a * 2) VIRTUAL AFTER id;
INSERT INTO generated_ (id, a, b) VALUES (4, 7, 8);
UPDATE generated_ SET a = 100 WHERE id = 1;
ALTER TABLE generated_ DROP COLUMN total;
UPDATE generated_ SET b = 200 WHERE id = 2;
