SET gtid_next = 'AUTOMATIC:tag_a';
INSERT INTO tagged_gtid VALUES (1), (2);
ALTER TABLE tagged_gtid ADD COLUMN v INT NOT NULL DEFAULT 3;
SET gtid_next = 'AUTOMATIC';
INSERT INTO tagged_gtid VALUES (3, 3);
