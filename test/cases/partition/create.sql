CREATE TABLE partition_range (id INT PRIMARY KEY, v VARCHAR(20)) PARTITION BY RANGE (id) (PARTITION p0 VALUES LESS THAN (10), PARTITION p1 VALUES LESS THAN (20), PARTITION p2 VALUES LESS THAN (30), PARTITION p3 VALUES LESS THAN (40));
CREATE TABLE partition_other (id INT PRIMARY KEY, v VARCHAR(20));
CREATE TABLE partition_hash (id INT PRIMARY KEY, v INT) PARTITION BY HASH (id) PARTITIONS 3;
INSERT INTO partition_range VALUES (1, 'p0'), (2, 'p0'), (11, 'p1'), (12, 'p1'), (21, 'p2'), (31, 'p3');
INSERT INTO partition_other VALUES (22, 'other'), (23, 'other');
INSERT INTO partition_hash VALUES (1, 1), (2, 2), (3, 3), (4, 4), (5, 5);
