CREATE TABLE multi_row (id INT PRIMARY KEY, v VARCHAR(20), n INT);
INSERT INTO multi_row VALUES (1, 'before', 1), (2, 'before', 2), (3, 'before', 3);
