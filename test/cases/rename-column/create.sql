CREATE TABLE rename_column (id INT PRIMARY KEY, a VARCHAR(20), b VARCHAR(20));
INSERT INTO rename_column VALUES (1, 'a1', 'b1'), (2, 'a2', 'b2');
