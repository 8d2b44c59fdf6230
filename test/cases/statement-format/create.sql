CREATE TABLE statement_format (id INT PRIMARY KEY, v VARCHAR(20));
INSERT INTO statement_format VALUES (1, 'a'), (2, 'b');
