CREATE TABLE incompatible (id INT PRIMARY KEY, v DOUBLE);
INSERT INTO incompatible VALUES (1, 0.1), (2, 1e300);
