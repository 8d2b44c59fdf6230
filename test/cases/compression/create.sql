CREATE TABLE compression (id INT PRIMARY KEY, v TEXT, big BLOB);
CREATE TABLE compression_other (id INT PRIMARY KEY, n INT);
INSERT INTO compression VALUES (1, 'a', NULL);
