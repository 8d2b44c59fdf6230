ALTER TABLE drop_column DROP COLUMN w;
UPDATE drop_column SET v = 'changed without w' WHERE id = 1;
ALTER TABLE drop_column ADD COLUMN w INT;
INSERT INTO drop_column (id, v, w) VALUES (4, 'd', 4);
ALTER TABLE drop_column DROP x, ADD COLUMN x VARCHAR(10), ADD INDEX (w);
UPDATE drop_column SET w = 22 WHERE id = 2;
