CREATE TABLE compressed (id INT PRIMARY KEY, v VARCHAR(10));
INSERT INTO compressed VALUES (1, 'a');
