CREATE TABLE add_column (id INT PRIMARY KEY, v VARCHAR(20));
INSERT INTO add_column VALUES (1, 'a'), (2, 'b'), (3, 'c');
