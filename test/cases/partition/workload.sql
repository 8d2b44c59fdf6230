ALTER TABLE partition_range TRUNCATE PARTITION p0;
INSERT INTO partition_range VALUES (3, 'p0 again');
ALTER TABLE partition_range DROP PARTITION p1;
ALTER TABLE partition_range EXCHANGE PARTITION p2 WITH TABLE partition_other;
INSERT INTO partition_other VALUES (50, 'after');
ALTER TABLE partition_range ADD PARTITION (PARTITION p4 VALUES LESS THAN (60));
INSERT INTO partition_range VALUES (45, 'p4');
ALTER TABLE partition_range REORGANIZE PARTITION p3, p4 INTO (PARTITION p34 VALUES LESS THAN (60));
UPDATE partition_range SET id = 5 WHERE id = 45;
ALTER TABLE partition_hash COALESCE PARTITION 1;
ALTER TABLE partition_hash ADD PARTITION PARTITIONS 2;
ALTER TABLE partition_hash REMOVE PARTITIONING;
UPDATE partition_hash SET v = 50 WHERE id = 5;
-- @only mariadb
ALTER TABLE partition_range CONVERT PARTITION p2 TO TABLE partition_converted;
INSERT INTO partition_converted VALUES (24, 'on its own');
