CREATE TABLE xa_rows (id INT PRIMARY KEY, v VARCHAR(20));
CREATE TABLE xa_other (id INT PRIMARY KEY, v VARCHAR(20));
INSERT INTO xa_rows VALUES (1, 'a'), (2, 'b'), (3, 'c'), (4, 'd'), (5, 'e');
