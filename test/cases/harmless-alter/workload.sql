ALTER TABLE harmless_alter ADD COLUMN w VARCHAR(10) CHARACTER SET utf8mb4 COLLATE utf8mb4_bin NULL DEFAULT NULL COMMENT 'it''s, new', ADD INDEX (n);
CREATE INDEX harmless_v ON harmless_alter (v);
INSERT INTO harmless_alter VALUES (3, 'c', 3, 'w');
ALTER TABLE harmless_alter ADD UNIQUE KEY u (n), DROP INDEX harmless_v, COMMENT = 'harmless', AUTO_INCREMENT = 100;
DROP INDEX u ON harmless_alter;
ALTER TABLE harmless_alter RENAME INDEX n TO n2, ALTER COLUMN v SET DEFAULT 'dflt';
UPDATE harmless_alter SET w = 'x' WHERE id = 1;
