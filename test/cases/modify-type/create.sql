CREATE TABLE modify_type (id INT PRIMARY KEY, n INT, v VARCHAR(60), d DECIMAL(8,2), e ENUM('a', 'b'), t DATETIME, f FLOAT, u INT UNSIGNED);
INSERT INTO modify_type VALUES (1, 1, 'a', 1.25, 'a', '2026-01-01 01:02:03', 0.1, 4000000000), (2, 2, 'b', 2.5, 'b', NULL, 1e10, 0);
