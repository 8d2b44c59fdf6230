CREATE TABLE blackhole_default (id INT PRIMARY KEY);
INSERT INTO blackhole_default VALUES (1);
