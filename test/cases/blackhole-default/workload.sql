SET default_storage_engine = BLACKHOLE;
CREATE TABLE blackhole_default_new (id INT PRIMARY KEY);
INSERT INTO blackhole_default_new VALUES (1);
