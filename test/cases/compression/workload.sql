-- @only mysql
SET SESSION binlog_transaction_compression = ON;
-- @only mariadb
SET GLOBAL log_bin_compress = ON;
SET GLOBAL log_bin_compress_min_len = 10;
-- @only both
BEGIN;
INSERT INTO compression VALUES (2, REPEAT('compress me ', 1000), REPEAT('x', 5000)), (3, REPEAT('y', 20000), NULL);
UPDATE compression SET v = REPEAT('changed ', 500) WHERE id = 1;
DELETE FROM compression WHERE id = 2;
INSERT INTO compression_other VALUES (1, 1), (2, 2);
COMMIT;
INSERT INTO compression VALUES (4, REPEAT('alone ', 200), REPEAT(0x00, 3000));
ALTER TABLE compression ADD COLUMN later INT NOT NULL DEFAULT 4;
UPDATE compression SET v = REPEAT('v', 3000), later = 5 WHERE id IN (3, 4);
-- @only mariadb
SET GLOBAL log_bin_compress = OFF;
