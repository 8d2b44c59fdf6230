CREATE SEQUENCE sequence_numbers START WITH 5 INCREMENT BY 5;
CREATE TABLE sequence_rows (id INT PRIMARY KEY DEFAULT (NEXT VALUE FOR sequence_numbers), v VARCHAR(10));
INSERT INTO sequence_rows (v) VALUES ('a');
