ALTER TABLE drop_column_and_back DROP COLUMN w;
UPDATE drop_column_and_back SET v = 'changed without w' WHERE id = 1;
ALTER TABLE drop_column_and_back ADD COLUMN w INT;
INSERT INTO drop_column_and_back (id, v, w) VALUES (4, 'd', 4);
ALTER TABLE drop_column_and_back DROP x, ADD COLUMN y INT FIRST;
UPDATE drop_column_and_back SET w = 22, y = 1 WHERE id = 2;
