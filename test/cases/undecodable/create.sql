CREATE TABLE undecodable (id INT PRIMARY KEY, v VARCHAR(20) CHARACTER SET cp1250);
INSERT INTO undecodable VALUES (1, 'a'), (2, 'b');
