SET SESSION binlog_row_image = MINIMAL;
UPDATE minimal_image SET v = 'changed' WHERE id = 1;
DELETE FROM minimal_image WHERE id = 2;
SET SESSION binlog_row_image = FULL;
UPDATE minimal_image SET w = 30 WHERE id = 3;
