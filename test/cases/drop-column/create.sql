CREATE TABLE drop_column (id INT PRIMARY KEY, v VARCHAR(20), w INT, x INT);
INSERT INTO drop_column VALUES (1, 'a', 1, 1), (2, 'b', 2, 2), (3, 'c', 3, 3);
