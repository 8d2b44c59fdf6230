INSERT INTO sequence_rows (v) VALUES ('b'), ('c');
SELECT NEXT VALUE FOR sequence_numbers;
ALTER SEQUENCE sequence_numbers RESTART 1000;
CREATE SEQUENCE sequence_more;
SELECT SETVAL(sequence_more, 42);
INSERT INTO sequence_rows (v) VALUES ('d') RETURNING id;
DROP SEQUENCE sequence_more;
