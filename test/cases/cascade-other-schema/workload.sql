DELETE FROM {schema}_parents.customer WHERE id = 1;
UPDATE {schema}_parents.customer SET code = 'x' WHERE id = 2;
-- @session xa
XA START 'other';
DELETE FROM {schema}_parents.customer WHERE id = 3;
XA END 'other';
XA PREPARE 'other';
-- @session
-- @restart-agent
-- @session xa
XA COMMIT 'other';
-- @session
INSERT INTO cascade_other_schema_by_id VALUES (6, 4);
RENAME TABLE {schema}_parents.customer TO {schema}_parents.client;
DELETE FROM {schema}_parents.client WHERE id = 4;
CREATE TABLE cascade_other_schema_later (id INT PRIMARY KEY, region INT, FOREIGN KEY (region) REFERENCES {schema}_parents.region (id) ON DELETE CASCADE);
INSERT INTO cascade_other_schema_later VALUES (1, 2);
DELETE FROM {schema}_parents.region WHERE id = 2;
DELETE FROM {schema}_parents.client WHERE id = 5;
ALTER TABLE cascade_other_schema_by_id DROP /* x */ FOREIGN /* y */ KEY cascade_other_schema_by_id_ibfk_1;
