ALTER TABLE rename_column RENAME COLUMN a TO b, RENAME COLUMN b TO a;
INSERT INTO rename_column (id, a, b) VALUES (3, 'was b', 'was a');
ALTER TABLE rename_column RENAME COLUMN a TO c;
UPDATE rename_column SET c = 'x' WHERE id = 1;
ALTER TABLE rename_column CHANGE b d VARCHAR(40) NOT NULL DEFAULT 'd';
ALTER TABLE rename_column ADD COLUMN a VARCHAR(20);
INSERT INTO rename_column (id) VALUES (4);
ALTER TABLE rename_column RENAME COLUMN c TO C2;
